"""The appliance's images: what ``make image`` builds, and how a built one is shown. A development package; no terminal contains it."""
