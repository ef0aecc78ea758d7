#!/bin/sh
# A job from beginning to end, with nothing but curl: enqueued, claimed, failed, tried again, completed.
set -eu
url=${REXECUTOR_URL:-http://127.0.0.1:8000}

# post PATH JSON: prints the answer, and fails with the service's reason if it refuses.
post() {
    curl --silent --show-error --fail-with-body "$url$1" --header 'content-type: application/json' --data "$2"
}

# member NAME: a number of the JSON on stdin, the first of that name.
member() {
    sed -n "s/.*\"$1\":\([0-9]*\).*/\1/p"
}

# With an Idempotency-Key the call may be made again after a timeout: the job is enqueued once.
key=$(date +%s)-$$
for _ in first again; do
    answer=$(curl --silent --show-error --fail-with-body "$url/v1/jobs" --header 'content-type: application/json' \
        --header "idempotency-key: $key" --data '{"executor": "example-by-hand", "data": {"number": 7}}')
    echo "enqueued: $answer"
done

# Wait up to 5 s for a job, and hold it for a minute. Its fence has to come back with the result.
claim() {
    job=$(post /v1/executors/example-by-hand/claim '{"wait": 5, "lease": 60, "worker": "by-hand"}' |
        sed 's/"errors":\[[^]]*\]//')
    id=$(echo "$job" | member id)
    fence=$(echo "$job" | member fence)
    echo "claimed: job $id, attempt $(echo "$job" | member attempt), fence $fence"
}

claim
echo "failed: $(post "/v1/jobs/$id/retry" "{\"fence\": $fence, \"delay\": 0.5, \"error\":
    {\"error_type\": \"panic\", \"message\": \"it did not work\"}}")"
claim
echo "done: $(post "/v1/jobs/$id/complete" "{\"fence\": $fence}")"

# Under an old fence nothing is changed any more, whoever sends it: that is what fences are for.
echo "too late: $(post "/v1/jobs/$id/complete" '{"fence": 1}' || true)"
