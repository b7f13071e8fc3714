//! The exchange between a client and a backend that are written byte by byte.

mod drain;
mod fixture;
mod framing;
mod hold;
mod limits;
mod quiet;
mod refusals;
mod trailers;
mod upgrade;
mod world;
