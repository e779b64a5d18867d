"""Floor 4: alerts: rules over what checks emit, and the ways on which people are told."""
