noinst_LIBRARIES += libconfig.a
libconfig_a_SOURCES = \
	config/config.h config/keys.def config/kinds.h config/model.h config/load.h \
	config/ini.c config/ini.h \
	config/words.c config/words.h \
	config/keys.c config/keys.h \
	config/snapshot.c config/snapshot.h \
	config/certdir.c config/certdir.h \
	config/diag.c \
	config/tree.c \
	config/kinds.c config/kinds_own.h config/kinds_word.c config/kinds_list.c \
	config/kinds_ref.c config/kinds_site.c config/kinds_server.c config/kinds_tls.c \
	config/kinds_cache.c config/kinds_compress.c \
	config/build.c \
	config/caching.c \
	config/order.c \
	config/check.c config/check_tls.c config/check_cache.c config/check_compress.c \
	config/quick.c \
	config/load.c \
	config/dump.c \
	config/diff.c \
	config/memory.c \
	config/doc.c config/doc.h

# Prints the key reference, the sample file and the words for completion from config/keys.def.
noinst_PROGRAMS += config/config-doc
config_config_doc_SOURCES = config/config-doc.c
config_config_doc_LDADD = $(LIBS_CONFIG) $(EXT_LIBS)
CONFIG_DOC = config/config-doc$(EXEEXT)

CONFIG_TESTS = t/unit/config_ini_test t/unit/config_value_test t/unit/config_load_test \
	t/unit/config_dump_test
check_PROGRAMS += $(CONFIG_TESTS)
UNIT_TESTS += $(CONFIG_TESTS)
CONFIG_TEST_LIBS = $(LIBS_CONFIG) $(EXT_LIBS)
t_unit_config_ini_test_SOURCES = t/unit/config_ini_test.c t/unit/config_fixture.h t/unit/tap.h
t_unit_config_ini_test_LDADD = $(CONFIG_TEST_LIBS)
t_unit_config_value_test_SOURCES = t/unit/config_value_test.c t/unit/config_fixture.h t/unit/tap.h
t_unit_config_value_test_LDADD = $(CONFIG_TEST_LIBS)
t_unit_config_load_test_SOURCES = t/unit/config_load_test.c t/unit/config_fixture.h t/unit/tap.h
t_unit_config_load_test_LDADD = $(CONFIG_TEST_LIBS)
t_unit_config_dump_test_SOURCES = t/unit/config_dump_test.c t/unit/config_fixture.h t/unit/tap.h
t_unit_config_dump_test_LDADD = $(CONFIG_TEST_LIBS)
EXTRA_DIST += t/etc/three-sites.conf
