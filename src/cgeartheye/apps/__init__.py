"""Application models: trained runs that are published in a registry, a folder of folders."""
