# The master: a library for its tests, and the program.
noinst_LIBRARIES += libmaster.a
libmaster_a_SOURCES = \
	master/caches.c master/caches.h \
	master/certcopy.c master/certcopy.h \
	master/certs.c master/certs.h \
	master/child.c master/child.h \
	master/cli.c master/cli.h \
	master/control.c master/control.h \
	master/ev.c master/ev.h \
	master/gen_state.c master/gen_state.h \
	master/fdstore.c master/fdstore.h \
	master/generation.c master/generation.h \
	master/job.c master/job.h \
	master/listener.c master/listener.h \
	master/logfile.c master/logfile.h \
	master/master.c master/master.h \
	master/query.c master/query.h \
	master/reload.c master/reload.h \
	master/sockfile.c master/sockfile.h \
	master/supervise.c master/supervise.h \
	master/ticket.c master/ticket.h \
	master/upgrade.c master/upgrade.h \
	master/verbs.c master/verbs.h \
	master/verbs_cache.c \
	master/verbs_status.c \
	master/verbs_upstream.c \
	master/wait.c master/wait.h \
	master/welcome.c master/welcome.h

sbin_PROGRAMS += sbin/rpd
sbin_rpd_SOURCES = master/main.c
sbin_rpd_LDADD = libmaster.a librpctl.a $(LIBS_WORKER) $(EXT_LIBS)

check_PROGRAMS += t/unit/gen_state_test t/unit/listener_test t/unit/ticket_test
UNIT_TESTS += t/unit/gen_state_test t/unit/listener_test t/unit/ticket_test
t_unit_gen_state_test_SOURCES = t/unit/gen_state_test.c t/unit/tap.h
t_unit_gen_state_test_LDADD = libmaster.a
t_unit_listener_test_SOURCES = t/unit/listener_test.c t/unit/tap.h
t_unit_listener_test_LDADD = libmaster.a $(LIBS_CONFIG) $(EXT_LIBS)
t_unit_ticket_test_SOURCES = t/unit/ticket_test.c t/unit/tap.h
t_unit_ticket_test_LDADD = libmaster.a libshm.a $(LIBS_CONFIG) $(EXT_LIBS)
