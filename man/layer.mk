# Manual pages. rpd.conf(5) is made of a hand-written head and tail around the key reference, which comes from the key table.
dist_man_MANS = man/rpd.8 man/rpctl.8
nodist_man_MANS = man/rpd.conf.5
EXTRA_DIST += man/rpd.conf.5.head man/rpd.conf.5.tail
CLEANFILES += man/rpd.conf.5

man/rpd.conf.5: $(srcdir)/man/rpd.conf.5.head $(srcdir)/man/rpd.conf.5.tail man/rpd.conf.keys
	$(AM_V_GEN)cat $(srcdir)/man/rpd.conf.5.head man/rpd.conf.keys $(srcdir)/man/rpd.conf.5.tail > $@.tmp && mv $@.tmp $@
