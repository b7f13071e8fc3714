//! What the API lists.

use serde_json::Value;

use super::World;

impl World {
    /// All sessions that the API lists.
    ///
    /// # Errors
    /// When there is no proper answer.
    pub async fn sessions(&self) -> Result<Vec<Value>, String> {
        let answer = self.get("/v1/sessions?limit=1000").await?.expect_status(200)?;
        answer.json()["sessions"].as_array().cloned().ok_or_else(|| "no list of sessions".to_owned())
    }

    /// The members that the API lists.
    ///
    /// # Errors
    /// When there is no proper answer.
    pub async fn members(&self) -> Result<Vec<Value>, String> {
        let answer = self.get("/v1/members").await?.expect_status(200)?;
        answer.json()["members"].as_array().cloned().ok_or_else(|| "no list of members".to_owned())
    }
}
