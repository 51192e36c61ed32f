# The control protocol and the table of commands, shared with the master; and the operator's tool.
noinst_LIBRARIES += librpctl.a
librpctl_a_SOURCES = \
	rpctl/client.c rpctl/client.h \
	rpctl/path.c rpctl/path.h \
	rpctl/proto.c rpctl/proto.h \
	rpctl/verb.c rpctl/verb.h rpctl/verb.def

sbin_PROGRAMS += sbin/rpctl
sbin_rpctl_SOURCES = rpctl/main.c rpctl/warm.c rpctl/warm.h
sbin_rpctl_LDADD = librpctl.a $(LIBS_BASE)

check_PROGRAMS += t/unit/proto_test
UNIT_TESTS += t/unit/proto_test
t_unit_proto_test_SOURCES = t/unit/proto_test.c t/unit/tap.h
t_unit_proto_test_LDADD = librpctl.a $(LIBS_BASE)
