include $(BR2_EXTERNAL_KAZASHI_PATH)/package/kazashi/kazashi.mk
include $(sort $(wildcard $(BR2_EXTERNAL_KAZASHI_PATH)/package/kazashi-*/*.mk))
