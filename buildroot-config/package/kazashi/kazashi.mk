################################################################################
#
# kazashi
#
################################################################################

KAZASHI_VERSION = 0.1.0
KAZASHI_SITE = $(BR2_EXTERNAL_KAZASHI_PATH)/..
KAZASHI_SITE_METHOD = local
KAZASHI_LICENSE = Apache-2.0
KAZASHI_LICENSE_FILES = LICENSE NOTICE

# What a terminal has of this tree; images/rootfs.py says the same, and a
# test holds both equal. Units, rules and settings come as overlays of the
# root: images/root and systemd.
KAZASHI_OURS = drivers ledger fares validator kiosk_ui firmware
KAZASHI_SHARED = examples/keypad.toml examples/town/operator.toml LICENSE NOTICE
KAZASHI_OVERRIDE_SRCDIR_RSYNC_EXCLUSIONS = \
	--exclude=__pycache__ \
	$(addprefix --include=/,$(KAZASHI_OURS) examples LICENSE NOTICE) \
	--exclude=/*

define KAZASHI_INSTALL_TARGET_CMDS
	mkdir -p $(TARGET_DIR)/usr/lib/kazashi $(TARGET_DIR)/usr/share/kazashi
	cp -R $(addprefix $(@D)/,$(KAZASHI_OURS)) $(TARGET_DIR)/usr/lib/kazashi
	$(INSTALL) -m 0644 $(addprefix $(@D)/,$(KAZASHI_SHARED)) \
		$(TARGET_DIR)/usr/share/kazashi
endef

# The users are those of sysusers.d; users.awk says them as Buildroot does.
define KAZASHI_USERS
	$(subst |,$(sep),$(shell awk -f $(KAZASHI_PKGDIR)/users.awk \
		$(KAZASHI_SITE)/systemd/usr/lib/sysusers.d/kazashi.conf))
endef

# The wheels that requirements/terminal.txt pins, as they are. They go
# around the target directory: there every library is stripped and gets
# another RPATH, and these would no longer be the files that were tried.
# board/kazashi/post-fakeroot.sh lays them into the root.
KAZASHI_PYTHON = 3.12
KAZASHI_FILES = file://$(call qstrip,$(BR2_PACKAGE_KAZASHI_FILES))

define KAZASHI_WHEEL_EXTRACT
	$(UNZIP) -d $(@D) $($(PKG)_DL_DIR)/$($(PKG)_SOURCE)
endef

define KAZASHI_WHEEL_INSTALL
	mkdir -p $(BINARIES_DIR)/kazashi/library
	cp -R $(@D)/* $(BINARIES_DIR)/kazashi/library
	rm -rf $(BINARIES_DIR)/kazashi/library/*.data
endef

ifeq ($(BR2_PACKAGE_KAZASHI)$(BR_BUILDING),yy)
ifneq ($(PYTHON3_VERSION_MAJOR),$(KAZASHI_PYTHON))
$(error kazashi: the wheels are for Python $(KAZASHI_PYTHON) and this Buildroot has $(PYTHON3_VERSION_MAJOR); take the release that docs/buildroot.md names)
endif
# Said at once, not when all is built.
ifneq ($(filter all _all world,$(or $(MAKECMDGOALS),all)),)
ifeq ($(call qstrip,$(BR2_PACKAGE_KAZASHI_KEYRING)),)
$(error kazashi: nobody is named whom updates are believed from; set BR2_PACKAGE_KAZASHI_KEYRING to the certificate (PEM) of an authority)
endif
endif
endif

$(eval $(generic-package))
