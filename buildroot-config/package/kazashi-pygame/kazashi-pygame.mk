################################################################################
#
# kazashi-pygame
#
################################################################################

KAZASHI_PYGAME_VERSION = 2.6.1
KAZASHI_PYGAME_SOURCE = pygame-$(KAZASHI_PYGAME_VERSION)-cp312-cp312-manylinux_2_17_$(ARCH).manylinux2014_$(ARCH).whl
KAZASHI_PYGAME_SITE = $(KAZASHI_FILES)
KAZASHI_PYGAME_LICENSE = LGPL-2.1+, Zlib (SDL)
KAZASHI_PYGAME_LICENSE_FILES = pygame/docs/generated/LGPL.txt
KAZASHI_PYGAME_INSTALL_TARGET = NO
KAZASHI_PYGAME_INSTALL_IMAGES = YES
KAZASHI_PYGAME_EXTRACT_CMDS = $(KAZASHI_WHEEL_EXTRACT)
KAZASHI_PYGAME_INSTALL_IMAGES_CMDS = $(KAZASHI_WHEEL_INSTALL)

$(eval $(generic-package))
