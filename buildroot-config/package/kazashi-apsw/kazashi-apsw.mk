################################################################################
#
# kazashi-apsw
#
################################################################################

KAZASHI_APSW_VERSION = 3.54.1.0
KAZASHI_APSW_SOURCE = apsw-$(KAZASHI_APSW_VERSION)-cp312-cp312-manylinux_2_28_$(ARCH).whl
KAZASHI_APSW_SITE = $(KAZASHI_FILES)
KAZASHI_APSW_LICENSE = any-OSI
KAZASHI_APSW_LICENSE_FILES = apsw-$(KAZASHI_APSW_VERSION).dist-info/licenses/LICENSE
KAZASHI_APSW_INSTALL_TARGET = NO
KAZASHI_APSW_INSTALL_IMAGES = YES
KAZASHI_APSW_EXTRACT_CMDS = $(KAZASHI_WHEEL_EXTRACT)
KAZASHI_APSW_INSTALL_IMAGES_CMDS = $(KAZASHI_WHEEL_INSTALL)

$(eval $(generic-package))
