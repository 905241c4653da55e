//! What the program promises, held by running it.
#![allow(clippy::unwrap_used)]

mod credentials;
mod database;
mod demo;
mod explain;
mod help;
mod letters;
mod models;
mod people;
mod run;
mod servers;
mod slices;
mod support;
mod upkeep;
