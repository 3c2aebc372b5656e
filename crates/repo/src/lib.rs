//! lifeboat-repo
