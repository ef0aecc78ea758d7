"""The lines with which people go on by themselves, for any POSIX shell with curl and sed."""

START = "rexecutor serve"

LINES = r"""
api=http://127.0.0.1:8000/v1 json='Content-Type: application/json'
curl -sSw '\n' $api/jobs -H "$json" -d '{"executor":"mail","data":{"to":"ada@example.org"}}'
job=$(curl -sS $api/executors/mail/claim -H "$json" -d '{"wait":5,"lease":"PT5M"}'); echo "$job"
id=$(echo "$job" | sed 's/^{"jobs":\[{"id":\([0-9]*\).*/\1/')
fence=$(echo "$job" | sed 's/.*"fence":\([0-9]*\).*/\1/')
curl -sSw '\n' $api/jobs/$id/complete -H "$json" -d "{\"fence\":$fence}"
curl -sSw '\n' $api/jobs/$id
""".lstrip()
"""Enqueue, claim, complete with the fence that came with the job, look at it."""
