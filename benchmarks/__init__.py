"""Figures of mlstead beside its peers: whole processes, same run, alternating."""
