noinst_LIBRARIES += libfilter.a
libfilter_a_SOURCES = \
	worker/filter/codec.c worker/filter/codec.h worker/filter/codec_br.c worker/filter/codec_gzip.c \
	worker/filter/compress.c worker/filter/compress.h worker/filter/compress_head.c \
	worker/filter/cpu.c worker/filter/cpu.h \
	worker/filter/filter.c worker/filter/filter.h
if ZSTD
libfilter_a_SOURCES += worker/filter/codec_zstd.c
endif
EXTRA_DIST += worker/filter/codec_zstd.c

FILTER_TESTS = t/unit/codec_test t/unit/cpu_share_test
check_PROGRAMS += $(FILTER_TESTS)
UNIT_TESTS += $(FILTER_TESTS)
t_unit_codec_test_SOURCES = t/unit/codec_test.c t/unit/tap.h
t_unit_codec_test_LDADD = libfilter.a $(LIBS_BASE) $(EXT_LIBS) $(BROTLI_DEC_LIBS)
t_unit_cpu_share_test_SOURCES = t/unit/cpu_share_test.c t/unit/tap.h
t_unit_cpu_share_test_LDADD = libfilter.a $(LIBS_BASE)
