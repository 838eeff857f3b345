#!/usr/bin/env bash
# Prints the Secrets and the ConfigMaps of public keys and authorities that the base mounts, each service's own and nothing else:
#   deploy/kubernetes/secrets.sh keys | kubectl apply --filename -
# The folder is the one that `catalyst keys --dir keys` made, with two files of the operator's beside:
# issuer.json, the public keys of the token issuer (JWKS); database-admin-url, postgres://USER:PASSWORD@HOST:PORT/catalyst
# of a role that may create roles; for dedicated cells the folders cells and cells-admin, with a URL of either kind for each;
# and the folder authorities with services.crt, postgres.crt and nats.crt, by which the certificates of each are verified. The development issuer that lies there too is trusted by nobody.
set -euo pipefail
keys=${1:?"name the folder that 'catalyst keys' made"}

# secret NAME FILE…: one manifest that holds each file under its own name.
secret() {
    local name=$1
    shift
    kubectl create secret generic "$name" --namespace catalyst --dry-run=client --output yaml "${@/#/--from-file=}"
    echo '---'
}

cd "$keys"
for service in tenants consultants projects time-entries audit; do
    role=${service//-/_}
    files=("postgres/${role}_app" "postgres/${role}_relay" "nats/credentials/$service.creds" "workload/$service.pem" page-token.key)
    if [[ $service == audit ]]; then
        files+=(postgres/audit_operator alert-webhook.secret nats/credentials/auth-watch.creds)
        files+=(nats/credentials/audit-checkpoint.creds audit/checkpoint.pem)
    fi
    secret "$service" "${files[@]}"
done
secret migrate postgres/*_owner postgres/*_app postgres/*_relay postgres/audit_operator \
    nats/credentials/migrator.creds database-admin-url
# Dedicated cells: where each is, and for the migration as its administrator.
for name in cells cells-admin; do
    if compgen -G "$name/*" >/dev/null; then secret "$name" "$name"/*; fi
done
kubectl create configmap public-keys --namespace catalyst --dry-run=client --output yaml \
    --from-file=issuer.json --from-file=workload.json=workload/jwks.json
echo '---'
kubectl create configmap authorities --namespace catalyst --dry-run=client --output yaml \
    --from-file=authorities/services.crt --from-file=authorities/postgres.crt --from-file=authorities/nats.crt
