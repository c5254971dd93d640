################################################################################
#
# kazashi-cffi
#
################################################################################

KAZASHI_CFFI_VERSION = 2.1.1
KAZASHI_CFFI_SOURCE = cffi-$(KAZASHI_CFFI_VERSION)-cp312-cp312-manylinux2014_$(ARCH).manylinux_2_17_$(ARCH).whl
KAZASHI_CFFI_SITE = $(KAZASHI_FILES)
KAZASHI_CFFI_LICENSE = MIT-0
KAZASHI_CFFI_LICENSE_FILES = cffi-$(KAZASHI_CFFI_VERSION).dist-info/licenses/LICENSE
KAZASHI_CFFI_INSTALL_TARGET = NO
KAZASHI_CFFI_INSTALL_IMAGES = YES
KAZASHI_CFFI_EXTRACT_CMDS = $(KAZASHI_WHEEL_EXTRACT)
KAZASHI_CFFI_INSTALL_IMAGES_CMDS = $(KAZASHI_WHEEL_INSTALL)

$(eval $(generic-package))
