################################################################################
#
# kazashi-cryptography
#
################################################################################

KAZASHI_CRYPTOGRAPHY_VERSION = 50.0.2
KAZASHI_CRYPTOGRAPHY_SOURCE = cryptography-$(KAZASHI_CRYPTOGRAPHY_VERSION)-cp311-abi3-manylinux_2_34_$(ARCH).whl
KAZASHI_CRYPTOGRAPHY_SITE = $(KAZASHI_FILES)
KAZASHI_CRYPTOGRAPHY_LICENSE = Apache-2.0 or BSD-3-Clause, Apache-2.0 (OpenSSL)
KAZASHI_CRYPTOGRAPHY_LICENSE_FILES = \
	cryptography-$(KAZASHI_CRYPTOGRAPHY_VERSION).dist-info/licenses/LICENSE \
	cryptography-$(KAZASHI_CRYPTOGRAPHY_VERSION).dist-info/licenses/LICENSE.APACHE \
	cryptography-$(KAZASHI_CRYPTOGRAPHY_VERSION).dist-info/licenses/LICENSE.BSD
KAZASHI_CRYPTOGRAPHY_INSTALL_TARGET = NO
KAZASHI_CRYPTOGRAPHY_INSTALL_IMAGES = YES
KAZASHI_CRYPTOGRAPHY_EXTRACT_CMDS = $(KAZASHI_WHEEL_EXTRACT)
KAZASHI_CRYPTOGRAPHY_INSTALL_IMAGES_CMDS = $(KAZASHI_WHEEL_INSTALL)

$(eval $(generic-package))
