//! Inference against a leaky CDN that knows the truth.

mod negative;
mod scale;
mod truth;
mod world;
