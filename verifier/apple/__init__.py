"""Outbound adapters to the App Store: what they are told over HTTP is read by `verifier.domain`."""
