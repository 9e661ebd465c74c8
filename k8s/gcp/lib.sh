# shellcheck shell=bash disable=SC2034,SC2154 # used by, and set by, the scripts that read this file
# What setup and teardown share: options, and how a command is run, or only printed.
set -euo pipefail
exec 3>&1 # what `value` shows must not become part of the value

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
live=$here/live
settings=$here/settings.env
dry_run=false
yes=false
namespace=storecast

# The comment at the head of the script that was called.
usage() {
  sed -n '2,/^[^#]/{s/^# \{0,1\}//;/^\. /d;p}' "$0"
}

read_options() {
  while (($#)); do
    case $1 in
      --dry-run) dry_run=true ;;
      --yes) yes=true ;;
      --settings)
        settings=${2:?--settings needs a file}
        shift
        ;;
      --help)
        usage
        exit 0
        ;;
      *)
        printf '%s: %s is no option; see --help\n' "${0##*/}" "$1" >&2
        exit 2
        ;;
    esac
    shift
  done
  # shellcheck source=settings.env
  . "$settings"
  # Settings that a file of an older version lacks.
  : "${FOLDER:=}" "${NETWORK:=}" "${SUBNETWORK:=}" "${OPERATOR:=addon}" "${KUBERAY_CHART:=1.6.2}"
  # The context that get-credentials makes. Every call names it: the current one may be another cluster's.
  context=gke_${PROJECT}_${REGION}_$CLUSTER
}

say() { printf '\n# %s\n' "$*"; }

# The command as it could be typed.
show() {
  local words
  printf -v words '%q ' "$@"
  printf '%s\n' "${words% }"
}

run() {
  show "$@"
  $dry_run || "$@"
}

# What a command answers; FALLBACK in a dry run, where nobody is asked.
value() { # value FALLBACK COMMAND…
  local fallback=$1
  shift
  show "$@" >&3
  if $dry_run; then printf '%s\n' "$fallback"; else "$@"; fi
}

# True where the command succeeds; a dry run prints it and says no.
is_there() {
  show "$@"
  ! $dry_run && "$@" >/dev/null 2>&1
}

# What was just made is not seen everywhere at once: tries for two minutes.
retry() { # retry COMMAND…
  show "$@"
  $dry_run && return
  local left
  for left in 5 4 3 2 1 0; do
    "$@" && return
    ((left)) || break
    echo "Tried again in ${PAUSE:-20} s: what was just made is not seen everywhere at once."
    sleep "${PAUSE:-20}"
  done
  return 1
}

# Make a thing that is not there: ensure DESCRIBE… -- CREATE…
ensure() {
  local describe=()
  while [[ $1 != -- ]]; do
    describe+=("$1")
    shift
  done
  shift
  is_there "${describe[@]}" || run "$@"
}

# Remove a thing that is there, after asking: remove WHAT DESCRIBE… -- DELETE…
remove() {
  local what=$1 describe=()
  shift
  while [[ $1 != -- ]]; do
    describe+=("$1")
    shift
  done
  shift
  if $dry_run; then
    show "${describe[@]}"
    run_or_call "$@"
  elif is_there "${describe[@]}"; then
    if confirmed "Delete $what?"; then run_or_call "$@"; fi
  else
    printf '%s: not there\n' "$what"
  fi
}

# A function of the script shows its own commands.
run_or_call() {
  if [[ $(type -t "$1") == function ]]; then "$@"; else run "$@"; fi
}

confirmed() {
  $yes && return
  local answer
  read -r -p "$1 [y/N] " answer </dev/tty
  [[ $answer == y ]]
}

# The accounts of k8s/base, and what each may do in the bucket: ROLE on what begins with PREFIX…
# Overwriting and deleting are one right on Cloud Storage, so `objectUser` is for what changes in
# place; everything else is only ever created. legacyBucketReader is `buckets.get` (pyarrow asks for
# it) and the listing of names, without which a missing object answers 403 instead of 404; neither can
# be limited to a prefix.
grants() {
  cat <<'G'
storecast-job objectViewer raw_data/ models/ batch_data/ packs/ context/ results/
storecast-job objectCreator batch_data/ packs/ context/ results/
storecast-job objectUser packs/v1/index.json batch_data/_delta_log/ context/weather/_delta_log/ context/holidays/_delta_log/ context/stores/_delta_log/ results/current.json
storecast-trainer objectViewer models/ batch_data/ context/
storecast-trainer objectCreator models/
storecast-trainer objectUser models/current.json
storecast-submitter objectViewer results/receipts/
storecast-api objectViewer results/ access/
storecast-cleaner objectViewer models/ batch_data/ packs/ context/ results/
storecast-cleaner objectUser batch_data/ packs/ context/ results/
storecast-adhoc objectViewer raw_data/ models/ batch_data/ packs/ context/ results/
storecast-adhoc objectCreator results/parts/ results/receipts/
G
}

# The Kubernetes account NAME as a member of IAM bindings.
principal() {
  local pool=projects/$number/locations/global/workloadIdentityPools/$PROJECT.svc.id.goog
  printf 'principal://iam.googleapis.com/%s/subject/ns/%s/sa/%s' "$pool" "$namespace" "$1"
}

# A CEL condition: the object's name begins with one of the prefixes.
condition() { # condition TITLE PREFIX…
  local title=$1 prefix expression=
  shift
  for prefix in "$@"; do
    expression+="${expression:+ || }resource.name.startsWith(\"projects/_/buckets/$BUCKET/objects/$prefix\")"
  done
  printf 'title=%s,expression=%s' "$title" "$expression"
}

# The type of a field of RayJobs in the live cluster, or nothing: the operator's version decides.
rayjob_field() { # rayjob_field FALLBACK PATH, for example .entrypoint
  value "$1" kubectl --context="$context" get customresourcedefinition rayjobs.ray.io \
    --output="jsonpath={.spec.versions[?(@.name=='v1')].schema.openAPIV3Schema.properties.spec${2//./.properties.}.type}"
}
