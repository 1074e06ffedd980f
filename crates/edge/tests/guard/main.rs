//! The guard against bytes, against hyper behind it, and against the clock.
//!
//! `heads` and `bodies` feed it bytes and look at what it hands on; `splits` does so however the
//! network may cut them; `behind_hyper` puts a real hyper server behind it; `clock` moves time;
//! `corpus` reads the published corpus of desynchronising requests.

mod behind_hyper;
mod bodies;
mod clock;
mod corpus;
mod feed;
mod heads;
mod server;
mod splits;
