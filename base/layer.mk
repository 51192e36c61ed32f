noinst_LIBRARIES += libbase.a
libbase_a_SOURCES = \
	base/addr.c base/addr.h \
	base/arena.c base/arena.h base/asan.h \
	base/buf.c base/buf.h \
	base/clock.c base/clock.h \
	base/err.c base/err.h base/err.def \
	base/hash.c base/hash.h \
	base/json.c base/json.h \
	base/list.h \
	base/log.c base/log.h \
	base/msg.c base/msg.h \
	base/num.c base/num.h \
	base/panic.c base/panic.h \
	base/pool.c base/pool.h \
	base/proc.c base/proc.h \
	base/slice.c base/slice.h \
	base/table.c base/table.h

check_PROGRAMS += \
	t/unit/base_addr_test \
	t/unit/base_arena_test \
	t/unit/base_buf_test \
	t/unit/base_clock_test \
	t/unit/base_err_test \
	t/unit/base_hash_test \
	t/unit/base_log_test \
	t/unit/base_msg_test \
	t/unit/base_num_test \
	t/unit/base_panic_test \
	t/unit/base_pool_test \
	t/unit/base_proc_test \
	t/unit/base_slice_test \
	t/unit/base_table_test
UNIT_TESTS += \
	t/unit/base_addr_test \
	t/unit/base_arena_test \
	t/unit/base_buf_test \
	t/unit/base_clock_test \
	t/unit/base_err_test \
	t/unit/base_hash_test \
	t/unit/base_log_test \
	t/unit/base_msg_test \
	t/unit/base_num_test \
	t/unit/base_panic_test \
	t/unit/base_pool_test \
	t/unit/base_proc_test \
	t/unit/base_slice_test \
	t/unit/base_table_test
t_unit_base_addr_test_SOURCES = t/unit/base_addr_test.c t/unit/tap.h
t_unit_base_addr_test_LDADD = $(LIBS_BASE)
t_unit_base_arena_test_SOURCES = t/unit/base_arena_test.c t/unit/tap.h
t_unit_base_arena_test_LDADD = $(LIBS_BASE)
t_unit_base_buf_test_SOURCES = t/unit/base_buf_test.c t/unit/tap.h
t_unit_base_buf_test_LDADD = $(LIBS_BASE)
t_unit_base_clock_test_SOURCES = t/unit/base_clock_test.c t/unit/tap.h
t_unit_base_clock_test_LDADD = $(LIBS_BASE)
t_unit_base_err_test_SOURCES = t/unit/base_err_test.c t/unit/tap.h
t_unit_base_err_test_LDADD = $(LIBS_BASE)
t_unit_base_hash_test_SOURCES = t/unit/base_hash_test.c t/unit/tap.h
t_unit_base_hash_test_LDADD = $(LIBS_BASE)
t_unit_base_log_test_SOURCES = t/unit/base_log_test.c t/unit/tap.h
t_unit_base_log_test_LDADD = $(LIBS_BASE)
t_unit_base_msg_test_SOURCES = t/unit/base_msg_test.c t/unit/tap.h
t_unit_base_msg_test_LDADD = $(LIBS_BASE)
t_unit_base_num_test_SOURCES = t/unit/base_num_test.c t/unit/tap.h
t_unit_base_num_test_LDADD = $(LIBS_BASE)
t_unit_base_panic_test_SOURCES = t/unit/base_panic_test.c t/unit/tap.h
t_unit_base_panic_test_LDADD = $(LIBS_BASE)
t_unit_base_pool_test_SOURCES = t/unit/base_pool_test.c t/unit/tap.h
t_unit_base_pool_test_LDADD = $(LIBS_BASE)
t_unit_base_proc_test_SOURCES = t/unit/base_proc_test.c t/unit/tap.h
t_unit_base_proc_test_LDADD = $(LIBS_BASE)
t_unit_base_slice_test_SOURCES = t/unit/base_slice_test.c t/unit/tap.h
t_unit_base_slice_test_LDADD = $(LIBS_BASE)
t_unit_base_table_test_SOURCES = t/unit/base_table_test.c t/unit/tap.h
t_unit_base_table_test_LDADD = $(LIBS_BASE)
