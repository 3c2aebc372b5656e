//! lifeboat-engine
