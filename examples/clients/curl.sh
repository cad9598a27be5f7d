#!/bin/sh
# A picture with curl alone, as a link and as a stream: sh curl.sh [http://127.0.0.1:8000]
set -eu
url=${1:-http://127.0.0.1:8000}

# The answer has a link to the picture, which is there for an hour.
curl -sSf "$url/v1/images/generations" -H "Content-Type: application/json" \
  -d '{"prompt": "a kitten in front of a fireplace", "response_format": "url", "steps": 8}' \
  -o answer.json
link=$(sed -n 's/.*"url":"\([^"]*\)".*/\1/p' answer.json)
curl -sSf "$link" -o kitten.png
echo kitten.png

# A picture from a picture, as a form.
curl -sSf "$url/v1/images/edits" -F prompt="a tree at night" -F image=@kitten.png \
  -F strength=0.7 -F steps=8 -F response_format=b64_json -o edited.json

# Progress and previews as they come.
curl -sSfN "$url/v1/images/generations" -H "Content-Type: application/json" \
  -d '{"prompt": "a blue sailboat at sunset", "stream": true, "progress": true, "steps": 8}' |
  cut -c 1-150
