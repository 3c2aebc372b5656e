//! `lifeboat.toml`: what a person writes, checked once into what the program carries.
