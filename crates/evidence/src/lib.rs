//! lifeboat-evidence
