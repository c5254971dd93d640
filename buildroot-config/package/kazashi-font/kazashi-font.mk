################################################################################
#
# kazashi-font
#
################################################################################

KAZASHI_FONT_VERSION = 1.05-2
KAZASHI_FONT_SOURCE = fonts-morisawa-bizud-gothic_$(KAZASHI_FONT_VERSION)_all.deb
KAZASHI_FONT_SITE = $(KAZASHI_FILES)
KAZASHI_FONT_LICENSE = OFL-1.1
KAZASHI_FONT_LICENSE_FILES = usr/share/doc/fonts-morisawa-bizud-gothic/copyright
KAZASHI_FONT_EXTRACT_DEPENDENCIES = $(BR2_XZCAT_HOST_DEPENDENCY)
KAZASHI_FONT_FOLDER = usr/share/fonts/truetype/bizud-gothic

# A Debian package is an ar archive with the files as a tar in it (deb(5)).
define KAZASHI_FONT_EXTRACT_CMDS
	$(HOSTAR) p $(KAZASHI_FONT_DL_DIR)/$(KAZASHI_FONT_SOURCE) data.tar.xz | \
		$(XZCAT) | $(TAR) -C $(@D) $(TAR_OPTIONS) -
endef

define KAZASHI_FONT_INSTALL_TARGET_CMDS
	mkdir -p $(TARGET_DIR)/$(KAZASHI_FONT_FOLDER)
	$(INSTALL) -m 0644 $(@D)/$(KAZASHI_FONT_FOLDER)/*.ttf \
		$(TARGET_DIR)/$(KAZASHI_FONT_FOLDER)
endef

$(eval $(generic-package))
