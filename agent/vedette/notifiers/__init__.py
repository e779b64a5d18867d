"""The notifiers that come with vedette; each imports only what a third party's would."""
