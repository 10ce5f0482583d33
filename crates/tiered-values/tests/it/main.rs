//! Typed values, documents and logs, over every stack that needs no server.

mod damage;
mod documents;
mod dropped;
mod formats;
mod loading;
mod logs;
mod reopened;
mod stacks;
mod steps;
mod sweep;
mod sweep_damage;
mod sweep_guards;
mod sweep_model;
mod sweep_races;
mod sweep_steps;
mod tools;
mod typed;
