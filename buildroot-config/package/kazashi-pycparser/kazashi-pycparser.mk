################################################################################
#
# kazashi-pycparser
#
################################################################################

KAZASHI_PYCPARSER_VERSION = 3.12
KAZASHI_PYCPARSER_SOURCE = pycparser-$(KAZASHI_PYCPARSER_VERSION)-py3-none-any.whl
KAZASHI_PYCPARSER_SITE = $(KAZASHI_FILES)
KAZASHI_PYCPARSER_LICENSE = BSD-3-Clause
KAZASHI_PYCPARSER_LICENSE_FILES = pycparser-$(KAZASHI_PYCPARSER_VERSION).dist-info/licenses/LICENSE
KAZASHI_PYCPARSER_INSTALL_TARGET = NO
KAZASHI_PYCPARSER_INSTALL_IMAGES = YES
KAZASHI_PYCPARSER_EXTRACT_CMDS = $(KAZASHI_WHEEL_EXTRACT)
KAZASHI_PYCPARSER_INSTALL_IMAGES_CMDS = $(KAZASHI_WHEEL_INSTALL)

$(eval $(generic-package))
