//! lifeboat-testkit
