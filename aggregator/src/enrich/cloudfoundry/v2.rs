//! Version 2 of the Cloud Controller's API, for installations that have no version 3.

use std::collections::HashMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::api::{Api, Failed};
use super::app::{App, Named};
use crate::dropsonde::Guid;

#[derive(Deserialize)]
struct Page<E> {
    next_url: Option<String>,
    resources: Vec<Resource<E>>,
}

#[derive(Deserialize)]
struct Resource<E> {
    metadata: Metadata,
    entity: E,
}

#[derive(Deserialize)]
struct Metadata {
    guid: String,
}

#[derive(Deserialize)]
struct AppEntity {
    name: String,
    space_guid: String,
    /// With `inline-relations-depth`.
    space: Option<Resource<SpaceEntity>>,
}

#[derive(Deserialize)]
struct SpaceEntity {
    name: String,
    organization_guid: String,
    /// With `inline-relations-depth`.
    organization: Option<Resource<OrgEntity>>,
}

#[derive(Deserialize)]
struct OrgEntity {
    name: String,
}

/// Lists organizations, spaces, and applications of any state: those that stop still have events.
pub(super) async fn list(
    api: &Api,
    per_page: u32,
    most: usize,
    each: &mut impl FnMut(Vec<App>),
) -> Result<(), Failed> {
    let mut orgs = HashMap::new();
    pages(
        api,
        "organizations",
        per_page,
        most,
        |org: Resource<OrgEntity>| {
            orgs.insert(org.metadata.guid, org.entity.name);
        },
    )
    .await?;
    let mut spaces = HashMap::new();
    pages(
        api,
        "spaces",
        per_page,
        most,
        |space: Resource<SpaceEntity>| {
            let SpaceEntity {
                name,
                organization_guid,
                ..
            } = space.entity;
            if let Some(org) = orgs.get(&organization_guid) {
                let guid = space.metadata.guid;
                let org = Named {
                    guid: organization_guid,
                    name: org.clone(),
                };
                spaces.insert(guid.clone(), (Named { guid, name }, org));
            }
        },
    )
    .await?;
    pages(api, "apps", per_page, most, |app: Resource<AppEntity>| {
        let Some(guid) = Guid::parse(&app.metadata.guid) else {
            return;
        };
        match spaces.get(&app.entity.space_guid) {
            Some((space, org)) => each(vec![App::new(guid, &app.entity.name, space, org)]),
            None => api.events.incomplete(&app.metadata.guid),
        }
    })
    .await
}

async fn pages<E: DeserializeOwned>(
    api: &Api,
    what: &'static str,
    per_page: u32,
    most: usize,
    mut each: impl FnMut(Resource<E>),
) -> Result<(), Failed> {
    let path = format!("/v2/{what}?results-per-page={per_page}");
    api.whole_list(what, &path, most, |body| {
        let page: Page<E> = read(what, body)?;
        page.resources.into_iter().for_each(&mut each);
        Ok(page.next_url)
    })
    .await
}

/// Asks for one application, and where the answer has neither space nor organization in it, for those.
pub(super) async fn look_up(api: &Api, guid: Guid) -> Result<Option<App>, Failed> {
    let path = format!("/v2/apps/{guid}?inline-relations-depth=2");
    let Some(app) = get::<AppEntity>(api, "lookup", &path).await? else {
        return Ok(None);
    };
    let space = match app.entity.space {
        Some(space) => Some(space),
        None => {
            let path = format!("/v2/spaces/{}", app.entity.space_guid);
            get::<SpaceEntity>(api, "spaces", &path).await?
        }
    };
    let Some(space) = space else {
        api.events.incomplete(&app.metadata.guid);
        return Ok(None);
    };
    let org = match space.entity.organization {
        Some(org) => Some(org),
        None => {
            let path = format!("/v2/organizations/{}", space.entity.organization_guid);
            get::<OrgEntity>(api, "organizations", &path).await?
        }
    };
    let Some(org) = org else {
        api.events.incomplete(&app.metadata.guid);
        return Ok(None);
    };
    let space = Named {
        guid: space.metadata.guid,
        name: space.entity.name,
    };
    let org = Named {
        guid: org.metadata.guid,
        name: org.entity.name,
    };
    Ok(Some(App::new(guid, &app.entity.name, &space, &org)))
}

async fn get<E: DeserializeOwned>(
    api: &Api,
    endpoint: &'static str,
    path: &str,
) -> Result<Option<Resource<E>>, Failed> {
    let body = api.get_path(endpoint, path).await?;
    body.map(|body| read(path, &body)).transpose()
}

fn read<T: DeserializeOwned>(what: &str, body: &[u8]) -> Result<T, Failed> {
    let garbage = |error| Failed::soon(format!("{what} cannot be read: {error}"));
    serde_json::from_slice(body).map_err(garbage)
}
