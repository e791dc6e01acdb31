#!/usr/bin/env bash
# The sample shop from nothing: catalogue, index, ten answered queries, the evaluation table, a reranker in force,
# and in the end the service with its page, until Ctrl-C.
set -euo pipefail
folder=${1:-demo}
products=${2:-5000}
port=${3:-8080}

say() {
  local word line="$"
  for word in "$@"; do
    [[ $word == *" "* ]] && word="'$word'"
    line+=" $word"
  done
  printf '\n\033[1m%s\033[0m\n' "$line"
  "$@"
}

say tilth sample "$folder/shop" --products "$products" --language en
say tilth index "$folder/shop/products.jsonl" --into "$folder/index"
for query in \
  'cow manure 20 kg' \
  'what to feed tomatoes with' \
  'get rid of slugs' \
  'garden hose 25 m' \
  'tomatoe seeds' \
  'cheap secateurs' \
  'organic fertiliser for roses' \
  'drip irrigation kit' \
  'terracotta pot 30cm' \
  'laptop'; do
  say tilth search "$folder/index" "$query" -k 3
done
say tilth search "$folder/index" 'cow manure 20 kg' -k 2 --explain
labels=(--queries "$folder/shop/queries.tsv" --qrels "$folder/shop/qrels.tsv")
say tilth evaluate "$folder/index" "${labels[@]}"
say tilth train "$folder/index" "${labels[@]}" --kinds lambdarank
say tilth release promote "$folder/index" r1 --budget-ms 100  # a machine that shows a demo does other things too
for query in 'cow manure 20 kg' 'laptop'; do
  say tilth search "$folder/index" "$query" -k 2 --explain
done
say tilth context "$folder/index" 'what to feed tomatoes with' --budget 300
export TILTH_JUDGING__QUERIES="$folder/shop/queries.tsv" TILTH_LOGGING__FORMAT=text TILTH_LOGGING__LEVEL=warning
printf '\nThe service: search, judging, reports and figures at the address below; Ctrl-C ends it.\n'
say exec tilth serve "$folder/index" --port "$port"
