//! The calls about mirroring.

use super::*;

calls! {
    "mirror::AddPeer::run" => |c| c.pool.mirroring().peers().add("site", "client.x").run(),
    "mirror::CreateMirrorSnapshot::into_future" =>
        |c| IntoFuture::into_future(c.image.mirroring().create_snapshot()).timeout(SHORT).wait(),
    "mirror::CreateMirrorSnapshot::run" => |c| c.image.mirroring().create_snapshot().run(),
    "mirror::CreateMirrorSnapshot::start" =>
        |c| c.image.mirroring().create_snapshot().start().timeout(SHORT).wait(),
    "mirror::DisableImage::run" => |c| c.image.mirroring().disable().run(),
    "mirror::ImageMirroring::start_info" => |c| c.image.mirroring().start_info().timeout(SHORT).wait(),
    "mirror::ImageMirroring::start_mode" => |c| c.image.mirroring().start_mode().timeout(SHORT).wait(),
    "mirror::ImageMirroring::start_status" => |c| c.image.mirroring().start_status().timeout(SHORT).wait(),
    "mirror::ImageMirroring::demote" => |c| c.image.mirroring().demote(),
    "mirror::ImageMirroring::enable" => |c| c.image.mirroring().enable(rbd::mirror::ImageMode::Snapshot),
    "mirror::ImageMirroring::info" => |c| c.image.mirroring().info(),
    "mirror::ImageMirroring::instance_id" => |c| c.image.mirroring().instance_id(),
    "mirror::ImageMirroring::mode" => |c| c.image.mirroring().mode(),
    "mirror::ImageMirroring::resync" => |c| c.image.mirroring().resync(),
    "mirror::ImageMirroring::status" => |c| c.image.mirroring().status(),
    "mirror::Peers::access" => |c| c.pool.mirroring().peers().access("x"),
    "mirror::Peers::list" => |c| c.pool.mirroring().peers().list(),
    "mirror::Peers::remove" => |c| c.pool.mirroring().peers().remove("x"),
    "mirror::Peers::set_access" => |c| c.pool.mirroring().peers().set_access("x", &rbd::mirror::PeerAccess::default()),
    "mirror::Peers::set_client_name" => |c| c.pool.mirroring().peers().set_client_name("x", "client.y"),
    "mirror::Peers::set_direction" => |c| c.pool.mirroring().peers().set_direction("x", rbd::mirror::Direction::RxTx),
    "mirror::Peers::set_site_name" => |c| c.pool.mirroring().peers().set_site_name("x", "y"),
    "mirror::PoolMirroring::create_bootstrap_token" => |c| c.pool.mirroring().create_bootstrap_token(),
    "mirror::PoolMirroring::images" => |c| c.pool.mirroring().images(None),
    "mirror::PoolMirroring::import_bootstrap_token" => |c| c.pool.mirroring().import_bootstrap_token(&token(), rbd::mirror::Direction::RxTx),
    "mirror::PoolMirroring::instance_ids" => |c| c.pool.mirroring().instance_ids(),
    "mirror::PoolMirroring::mode" => |c| c.pool.mirroring().mode(),
    "mirror::PoolMirroring::remote_namespace" => |c| c.pool.mirroring().remote_namespace(),
    "mirror::PoolMirroring::set_mode" => |c| c.pool.mirroring().set_mode(rbd::mirror::PoolMode::Image),
    "mirror::PoolMirroring::set_remote_namespace" => |c| c.pool.mirroring().set_remote_namespace("x"),
    "mirror::PoolMirroring::statuses" => |c| c.pool.mirroring().statuses(),
    "mirror::PoolMirroring::summary" => |c| c.pool.mirroring().summary(),
    "mirror::PoolMirroring::uuid" => |c| c.pool.mirroring().uuid(),
    "mirror::ImageMirroring::start_demote" => |c| c.image.mirroring().start_demote().wait(),
    "mirror::PromoteImage::into_future" =>
        |c| IntoFuture::into_future(c.image.mirroring().promote()).timeout(SHORT).wait(),
    "mirror::PromoteImage::start" => |c| c.image.mirroring().promote().start().timeout(SHORT).wait(),
    "mirror::PromoteImage::run" => |c| c.image.mirroring().promote().run(),
}
