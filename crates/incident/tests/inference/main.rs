//! Inference against a leaky CDN that knows the truth.

mod scale;
mod truth;
mod world;
