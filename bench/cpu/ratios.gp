# Draws how many times as fast as the peer: gnuplot -e "data='ratios.csv'; out='cpu.png'; cores='2'" ratios.gp
# data: CSV of name,threads,side,rank,rows,ratio, as compare.py writes it.
set datafile separator ','
set terminal pngcairo size 1000,420 font 'sans,11'
set output out
set title 'time of torch.svd\_lowrank(q=4r, niter=4) / time of loraga, same run (bench/results/cpu.json)'
set ylabel 'ratio'
set xlabel 'rank'
set yrange [0:*]
set xrange [-0.6:2.6]
set xtics ('8' 0, '32' 1, '128' 2)
set grid ytics
set key outside right top
set arrow from graph 0, first 1 to graph 1, first 1 nohead dashtype 2 lc rgb 'black'
place(r) = r == 8 ? 0 : r == 32 ? 1 : 2
shift(side, m) = (side eq 'balanced' ? -0.06 : 0.06) + (m >= 4096 ? -0.25 : m >= 3072 ? 0 : 0.25)
dots(side, threads) = "< awk -F, '$3 == \"".side."\" && $2 == ".threads." && $5 >= 768' ".data
plot for [side in 'balanced tight'] dots(side, 1) using (place($4) + shift(side, $5)):6 with points pt 7 \
       lc rgb (side eq 'balanced' ? '#0072b2' : '#e51e10') title side.', one thread', \
     for [side in 'balanced tight'] dots(side, cores) using (place($4) + shift(side, $5)):6 with points pt 6 \
       lc rgb (side eq 'balanced' ? '#0072b2' : '#e51e10') title side.', '.cores.' threads'
