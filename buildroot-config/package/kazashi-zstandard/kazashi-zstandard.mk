################################################################################
#
# kazashi-zstandard
#
################################################################################

KAZASHI_ZSTANDARD_VERSION = 0.25.0
KAZASHI_ZSTANDARD_SOURCE = zstandard-$(KAZASHI_ZSTANDARD_VERSION)-cp312-cp312-manylinux2014_$(ARCH).manylinux_2_17_$(ARCH).whl
KAZASHI_ZSTANDARD_SITE = $(KAZASHI_FILES)
KAZASHI_ZSTANDARD_LICENSE = BSD-3-Clause
KAZASHI_ZSTANDARD_LICENSE_FILES = zstandard-$(KAZASHI_ZSTANDARD_VERSION).dist-info/licenses/LICENSE
KAZASHI_ZSTANDARD_INSTALL_TARGET = NO
KAZASHI_ZSTANDARD_INSTALL_IMAGES = YES
KAZASHI_ZSTANDARD_EXTRACT_CMDS = $(KAZASHI_WHEEL_EXTRACT)
KAZASHI_ZSTANDARD_INSTALL_IMAGES_CMDS = $(KAZASHI_WHEEL_INSTALL)

$(eval $(generic-package))
