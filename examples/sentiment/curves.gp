# Draws out/curves.png from out/curves.csv: mean test loss and accuracy over seeds against steps, one row per set.
csv = out.'/curves.csv'
sets = system("tail -n +2 ".csv." | cut -d, -f1 | awk '!seen[$0]++' | tr '\\n' ' '")
methods = system("tail -n +2 ".csv." | cut -d, -f2 | awk '!seen[$0]++' | tr '\\n' ' '")
means(s, m, column) = "< awk -F, '$1 == \"".s."\" && $2 == \"".m."\" {s[$4] += $".column."; n[$4]++} END {for (k in s) print k, s[k]/n[k]}' ".csv." | sort -n"
set terminal pngcairo size 1300, 460*words(sets) font 'sans,11'
set output out.'/curves.png'
set multiplot layout words(sets), 2
set xlabel 'step'
set grid
set linetype 1 lc rgb 'black'
do for [s in sets] {
  set key top right
  set ylabel 'loss on the held-out snippets (mean of seeds)'
  set title s
  plot for [m in methods] means(s, m, '5') with lines linewidth 2 title m
  set key bottom right
  set ylabel 'accuracy on the held-out snippets (mean of seeds)'
  plot for [m in methods] means(s, m, '6') with lines linewidth 2 title m
}
unset multiplot
