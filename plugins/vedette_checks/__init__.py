"""The checks that come with vedette, one folder each; every one is a plugin like a third party's."""
