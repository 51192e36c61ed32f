noinst_LIBRARIES += liblog.a
liblog_a_SOURCES = \
	worker/log/access.c worker/log/access.h \
	worker/log/format.c worker/log/format.h worker/log/vars.def \
	worker/log/json.c \
	worker/log/line.c worker/log/line.h \
	worker/log/stamp.c worker/log/stamp.h \
	worker/log/writer.c worker/log/writer.h

check_PROGRAMS += t/unit/log_format_test
UNIT_TESTS += t/unit/log_format_test
t_unit_log_format_test_SOURCES = t/unit/log_format_test.c t/unit/log_fixture.h t/unit/tap.h
t_unit_log_format_test_LDADD = $(LIBS_LOG) $(EXT_LIBS)

check_PROGRAMS += t/unit/log_writer_test
UNIT_TESTS += t/unit/log_writer_test
t_unit_log_writer_test_SOURCES = t/unit/log_writer_test.c t/unit/tap.h
t_unit_log_writer_test_LDADD = liblog.a $(LIBS_BASE)

check_PROGRAMS += t/unit/access_test
UNIT_TESTS += t/unit/access_test
t_unit_access_test_SOURCES = t/unit/access_test.c t/unit/log_fixture.h t/unit/tap.h
t_unit_access_test_LDADD = $(LIBS_LOG) $(EXT_LIBS)

check_PROGRAMS += t/bench/log_bench
t_bench_log_bench_SOURCES = t/bench/log_bench.c t/unit/log_fixture.h t/unit/tap.h
t_bench_log_bench_LDADD = $(LIBS_LOG) $(EXT_LIBS)

noinst_PROGRAMS += t/tool/vars-doc
t_tool_vars_doc_SOURCES = t/tool/vars-doc.c
t_tool_vars_doc_LDADD =
