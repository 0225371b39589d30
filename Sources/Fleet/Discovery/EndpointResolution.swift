// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel
package import Router

extension ProfileCatalog {
    /// An endpoint with its profile, by the fallback ladder. Never fails: what nobody knows gets a wider band.
    package func endpoint(_ description: EndpointDescription, id: EndpointID) -> Endpoint {
        let resolution = resolve(query(for: description))
        return Endpoint(
            id: id,
            name: description.name,
            address: description.address,
            port: description.port,
            role: description.role,
            pool: description.pool,
            accelerator: resolution.accelerator,
            engine: description.engine,
            servedModels: description.servedModels ?? (description.model.isEmpty ? nil : [description.model]),
            kv: KVLayout(
                model: modelIdentity(description.model),
                dtype: KVDtype.format(named: description.kvDtype),
                blockSize: description.blockSize,
                connector: connectorName(description.connector),
                tensorParallel: description.tensorParallel
            ),
            profile: resolution.profile,
            canPullKV: description.kvPull ?? false,
            configuration: [
                resolution.accelerator, resolution.model, "tp\(resolution.tensorParallel)", resolution.dtype.rawValue,
                description.engine,
            ].joined(separator: "/"),
            labels: description.labels
        )
    }

    /// What the ladder is asked about an endpoint: validate and /debug/fleet show its answer.
    package func query(for description: EndpointDescription) -> ProfileQuery {
        ProfileQuery(
            accelerator: description.accelerator,
            model: description.model,
            tensorParallel: description.tensorParallel,
            dtype: description.dtype,
            engine: description.engine,
            kvDtype: description.kvDtype,
            pricePerHour: description.pricePerHour,
            networkGbps: description.networkGbps,
            connector: description.connector
        )
    }
}
