# A stand-in for Buildroot: what its macros would learn of each package of our tree, as one line of JSON. Nothing is built.
# make -f stand_in.mk BR2_EXTERNAL_KAZASHI_PATH=… ARCH=x86_64

all: ;

define sep


endef
define newline


endef
empty :=
tab := $(empty)	$(empty)
quote := "
qstrip = $(strip $(subst $(quote),,$(1)))
escaped = $(subst $(newline),\n,$(subst $(tab),\t,$(subst $(quote),\$(quote),$(subst \,\\,$(1)))))
field = "$(1)": "$(call escaped,$($(PKG)_$(2)))"

PYTHON3_VERSION_MAJOR ?= 3.12
BR2_PACKAGE_KAZASHI_FILES = "/files"
TARGET_DIR = /target
BINARIES_DIR = /images
HOSTAR = ar
XZCAT = xzcat
TAR = tar
TAR_OPTIONS = -xf
UNZIP = unzip -q
INSTALL = install

package-name = $(notdir $(patsubst %/,%,$(dir $(lastword $(MAKEFILE_LIST)))))
define generic-package
$(eval PKG := $(shell echo $(package-name) | tr a-z- A-Z_))$(eval $(PKG)_PKGDIR := $(dir $(lastword $(MAKEFILE_LIST))))$(eval $(PKG)_DL_DIR := /downloads)$(info { "name": "$(package-name)", $(call field,version,VERSION), $(call field,source,SOURCE), $(call field,site,SITE), $(call field,method,SITE_METHOD), $(call field,licence,LICENSE), $(call field,licence_files,LICENSE_FILES), $(call field,depends,DEPENDENCIES), $(call field,to_target,INSTALL_TARGET), $(call field,to_images,INSTALL_IMAGES), $(call field,extract,EXTRACT_CMDS), $(call field,install_target,INSTALL_TARGET_CMDS), $(call field,install_images,INSTALL_IMAGES_CMDS), $(call field,users,USERS), $(call field,ours,OURS), $(call field,shared,SHARED), $(call field,excluded,OVERRIDE_SRCDIR_RSYNC_EXCLUSIONS) })
endef

include $(BR2_EXTERNAL_KAZASHI_PATH)/external.mk
