//! lifeboat-drill
