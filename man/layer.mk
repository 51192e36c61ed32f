# Manual pages. rpd.conf(5) is put together here: hand-written text around the key reference (from config/keys.def) and the log
# variables (from worker/log/vars.def).
dist_man_MANS = man/rpd.8 man/rpctl.8 man/rpd-tls.7 man/rpd-cache.7
nodist_man_MANS = man/rpd.conf.5
EXTRA_DIST += man/rpd.conf.5.head man/rpd.conf.5.log man/rpd.conf.5.tail
CLEANFILES += man/rpd.conf.5

man/rpd.conf.5: $(srcdir)/man/rpd.conf.5.head $(srcdir)/man/rpd.conf.5.log $(srcdir)/man/rpd.conf.5.tail \
		$(CONFIG_DOC) t/tool/vars-doc$(EXEEXT)
	$(AM_V_GEN)$(MKDIR_P) man && { cat $(srcdir)/man/rpd.conf.5.head && $(CONFIG_DOC) man && \
	  cat $(srcdir)/man/rpd.conf.5.log && t/tool/vars-doc$(EXEEXT) && cat $(srcdir)/man/rpd.conf.5.tail; } > $@.tmp && mv $@.tmp $@
