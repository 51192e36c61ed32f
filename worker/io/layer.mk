noinst_LIBRARIES += libio.a
libio_a_SOURCES = \
	worker/io/link.c worker/io/link.h \
	worker/io/loop.c worker/io/loop.h \
	worker/io/pipe.c worker/io/pipe.h \
	worker/io/sock.c worker/io/sock.h \
	worker/io/timer.c worker/io/timer.h \
	worker/io/tls.c worker/io/tls.h worker/io/tls_cert.h worker/io/tls_in.h \
	worker/io/tls_cert.c worker/io/tls_cert_in.h \
	worker/io/tls_cert_dir.c \
	worker/io/tls_cert_index.c \
	worker/io/tls_cert_load.c \
	worker/io/tls_cert_print.c \
	worker/io/tls_client.c \
	worker/io/tls_conn.c \
	worker/io/tls_info.c \
	worker/io/tls_scan.c worker/io/tls_scan.h \
	worker/io/tls_ticket.c

IO_TESTS = t/unit/link_test t/unit/loop_test t/unit/sock_test t/unit/timer_test t/unit/tls_cert_test \
	t/unit/tls_scan_test t/unit/tls_test
check_PROGRAMS += $(IO_TESTS)
UNIT_TESTS += $(IO_TESTS)
t_unit_link_test_SOURCES = t/unit/link_test.c t/unit/tap.h
t_unit_link_test_LDADD = $(LIBS_IO)
t_unit_loop_test_SOURCES = t/unit/loop_test.c t/unit/tap.h
t_unit_loop_test_LDADD = $(LIBS_IO)
t_unit_timer_test_SOURCES = t/unit/timer_test.c t/unit/tap.h
t_unit_timer_test_LDADD = $(LIBS_IO)
t_unit_sock_test_SOURCES = t/unit/sock_test.c t/unit/tap.h
t_unit_sock_test_LDADD = $(LIBS_IO)
t_unit_tls_test_SOURCES = t/unit/tls_test.c t/unit/tls_fixture.h t/unit/tap.h
t_unit_tls_test_LDADD = $(LIBS_IO) $(INIH_LIBS) $(OPENSSL_LIBS)
t_unit_tls_cert_test_SOURCES = t/unit/tls_cert_test.c t/unit/tls_fixture.h t/unit/tap.h
t_unit_tls_cert_test_LDADD = $(LIBS_IO) $(INIH_LIBS) $(OPENSSL_LIBS)
t_unit_tls_scan_test_SOURCES = t/unit/tls_scan_test.c t/unit/tap.h
t_unit_tls_scan_test_LDADD = $(LIBS_IO) $(OPENSSL_LIBS)
