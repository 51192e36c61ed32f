# What goes beside the programs: sample configuration, init script, systemd unit, logrotate, completion. And the house checks.
EXTRA_DIST += scripts/lib.sh scripts/run scripts/test scripts/check-layers scripts/check-man \
	scripts/rpd.init.in scripts/rpd.service.in scripts/rpd.logrotate.in
HOUSE_TESTS += scripts/check-layers scripts/check-man scripts/check-scripts
EXTRA_DIST += scripts/check-scripts

rpdconfdir = $(sysconfdir)/rpd
initdir = $(sysconfdir)/init.d
logrotatedir = $(sysconfdir)/logrotate.d
systemdunitdir = @systemdsystemunitdir@
completiondir = $(datadir)/bash-completion/completions
nodist_rpdconf_DATA = scripts/rpd.conf.sample
nodist_systemdunit_DATA = scripts/rpd.service
SYSTEM_FILES = scripts/rpd.init scripts/rpd.service scripts/rpd.logrotate scripts/rpctl.bash-completion
noinst_DATA = $(SYSTEM_FILES)
CLEANFILES += $(SYSTEM_FILES) scripts/rpd.conf.sample

SUBSTITUTE = $(MKDIR_P) scripts && $(SED) -e 's,[@]sbindir@,$(sbindir),g' -e 's,[@]sysconfdir@,$(sysconfdir),g' \
	-e 's,[@]localstatedir@,$(localstatedir),g' -e 's,[@]rundir@,$(rundir),g'
scripts/rpd.conf.sample: $(CONFIG_DOC)
	$(AM_V_GEN)$(MKDIR_P) scripts && $(CONFIG_DOC) sample > $@.tmp && mv $@.tmp $@
scripts/rpctl.bash-completion: sbin/rpctl$(EXEEXT)
	$(AM_V_GEN)$(MKDIR_P) scripts && ./sbin/rpctl$(EXEEXT) completion bash > $@.tmp && mv $@.tmp $@
scripts/rpd.init: scripts/rpd.init.in Makefile
	$(AM_V_GEN)$(SUBSTITUTE) $(srcdir)/scripts/rpd.init.in > $@.tmp && chmod 755 $@.tmp && mv $@.tmp $@
scripts/rpd.service: scripts/rpd.service.in Makefile
	$(AM_V_GEN)$(SUBSTITUTE) $(srcdir)/scripts/rpd.service.in > $@.tmp && mv $@.tmp $@
scripts/rpd.logrotate: scripts/rpd.logrotate.in Makefile
	$(AM_V_GEN)$(SUBSTITUTE) $(srcdir)/scripts/rpd.logrotate.in > $@.tmp && mv $@.tmp $@

# Files whose installed name differs from their name here, and the configuration, which belongs to the operator once it exists.
install-data-local: $(SYSTEM_FILES) scripts/rpd.conf.sample
	$(MKDIR_P) '$(DESTDIR)$(rpdconfdir)' '$(DESTDIR)$(initdir)' '$(DESTDIR)$(logrotatedir)' '$(DESTDIR)$(completiondir)' \
	  '$(DESTDIR)$(localstatedir)/log/rpd'
	$(INSTALL_SCRIPT) scripts/rpd.init '$(DESTDIR)$(initdir)/rpd'
	$(INSTALL_DATA) scripts/rpd.logrotate '$(DESTDIR)$(logrotatedir)/rpd'
	$(INSTALL_DATA) scripts/rpctl.bash-completion '$(DESTDIR)$(completiondir)/rpctl'
	test -e '$(DESTDIR)$(rpdconfdir)/rpd.conf' || $(INSTALL_DATA) scripts/rpd.conf.sample '$(DESTDIR)$(rpdconfdir)/rpd.conf'
uninstall-local:
	rm -f '$(DESTDIR)$(initdir)/rpd' '$(DESTDIR)$(logrotatedir)/rpd' '$(DESTDIR)$(completiondir)/rpctl'
	if cmp -s '$(DESTDIR)$(rpdconfdir)/rpd.conf' scripts/rpd.conf.sample; then rm -f '$(DESTDIR)$(rpdconfdir)/rpd.conf'; fi
	-rmdir '$(DESTDIR)$(localstatedir)/log/rpd' 2>/dev/null
# distcheck wants nothing left: uninstall-hook runs after the sample itself is gone.
uninstall-hook:
	-rmdir '$(DESTDIR)$(rpdconfdir)' 2>/dev/null
