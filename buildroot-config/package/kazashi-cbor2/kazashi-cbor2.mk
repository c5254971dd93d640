################################################################################
#
# kazashi-cbor2
#
################################################################################

KAZASHI_CBOR2_VERSION = 6.3.0
KAZASHI_CBOR2_SOURCE = cbor2-$(KAZASHI_CBOR2_VERSION)-cp312-cp312-manylinux_2_28_$(ARCH).whl
KAZASHI_CBOR2_SITE = $(KAZASHI_FILES)
KAZASHI_CBOR2_LICENSE = MIT
KAZASHI_CBOR2_LICENSE_FILES = cbor2-$(KAZASHI_CBOR2_VERSION).dist-info/licenses/LICENSE.txt
KAZASHI_CBOR2_INSTALL_TARGET = NO
KAZASHI_CBOR2_INSTALL_IMAGES = YES
KAZASHI_CBOR2_EXTRACT_CMDS = $(KAZASHI_WHEEL_EXTRACT)
KAZASHI_CBOR2_INSTALL_IMAGES_CMDS = $(KAZASHI_WHEEL_INSTALL)

$(eval $(generic-package))
