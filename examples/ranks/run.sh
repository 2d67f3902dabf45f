# Sourced by examples/run.sh: the program on 1, 2 and 4 ranks, one thread each, then the table and the picture.
if [[ $device != cpu ]]; then
  echo "ranks: --device $device, expected cpu" >&2
  exit 1
fi
if [[ " $* " == *" --help "* ]]; then
  $build/examples/ranks --help
  exit
fi
start=(mpirun)
if mpirun --version 2> /dev/null | grep -q "Open MPI"; then
  start+=(--oversubscribe --bind-to none)
  [[ $(id -u) -eq 0 ]] && start+=(--allow-run-as-root)
fi
sizes=(1 2 4)
for n in "${sizes[@]}"; do
  rm -f "$out/ranks-$n.json"
  echo && echo "$n rank(s), one thread each"
  "${start[@]}" -n "$n" $build/examples/ranks --images $data --cache build --dictionary build/foldoc/foldoc.dict \
    --model build/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf --out "$out" "$@"
done
agreed=0
python3 examples/ranks/report.py "$out" "${sizes[@]}" || agreed=1
gnuplot -e "out='$out'" examples/ranks/ranks.gp && echo && ls "$out"/ranks-*.json "$out"/ranks.png
exit $agreed
