// Draws a target with its binder: foldViewer(element, layouts, hotspots) over 3Dmol.js.
//
// A structure: {chains: [{id, residues: "MET LYS", numbers: [[first, count], ..], layouts: [index, ..]}], xyz, plddt, binder}: of each
// residue the names of its atoms (an entry of `layouts`, "N CA C O", with ":Zn" where the element is not the first letter), all
// coordinates in 0.01 Å as base64 of 16-bit integers, pLDDT of the residues as base64 of bytes, or null. The binder is the last chain.
"use strict";
const foldViewer = (() => {
  const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
  const ONE = {ALA: "A", ARG: "R", ASN: "N", ASP: "D", CYS: "C", GLN: "Q", GLU: "E", GLY: "G", HIS: "H", ILE: "I", LEU: "L", LYS: "K",
    MET: "M", PHE: "F", PRO: "P", SER: "S", THR: "T", TRP: "W", TYR: "Y", VAL: "V"};
  const PLDDT = [[90, "#0053d6"], [70, "#65cbf3"], [50, "#ffdb13"], [-1, "#ff7d45"]];
  const COLOURS = {target: "#9aa7b4", binder: "#1b9e77", hotspot: "#d6336c", design: "#b08d57"};

  const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));
  const ofPlddt = value => PLDDT.find(([least]) => value >= least)[1];
  const letter = index => LETTERS[index % LETTERS.length];

  /** Residues of a structure with their atoms. */
  function residues(structure, layouts) {
    const raw = bytes(structure.xyz);
    const view = new DataView(raw.buffer);
    const plddt = structure.plddt ? bytes(structure.plddt) : null;
    const all = [];
    let at = 0;
    structure.chains.forEach((chain, c) => {
      const codes = chain.residues.split(" ");
      const numbers = chain.numbers.flatMap(([first, count]) => Array.from({length: count}, (_, i) => first + i));
      chain.layouts.forEach((layout, i) => {
        const atoms = layouts[layout].split(" ").map(word => {
          const [name, element] = word.split(":");
          const x = [0, 1, 2].map(k => view.getInt16(at + 2 * k, true) / 100);
          at += 6;
          return {name, element: element || name[0], x};
        });
        all.push({chain: c, id: chain.id, code: codes[i], number: numbers[i], plddt: plddt ? plddt[all.length] : 0, atoms});
      });
    });
    return all;
  }

  /** The same in PDB format, by which the library finds helices and strands. */
  function pdb(all) {
    let serial = 0;
    return all.flatMap(r => {
      const has = name => r.atoms.some(a => a.name === name);
      const group = has("CA") || has("C4'") ? "ATOM  " : "HETATM";
      return r.atoms.map(a => {
        serial += 1;
        const name = a.name.length > 3 || a.element.length > 1 ? a.name.padEnd(4) : (" " + a.name).padEnd(4);
        return group + String(serial % 100000).padStart(5) + " " + name.slice(0, 4) + " " + r.code.slice(0, 3).padStart(3) + " " +
          letter(r.chain) + String(r.number % 10000).padStart(4) + "    " + a.x.map(v => v.toFixed(3).padStart(8)).join("") +
          "  1.00" + r.plddt.toFixed(2).padStart(6) + "          " + a.element.toUpperCase().padStart(2);
      });
    }).join("\n") + "\nEND\n";
  }

  return (element, layouts, hotspots) => {
    // The element's own background, as a number: what is half transparent in front of it is mixed with it.
    const background = () => getComputedStyle(element).backgroundColor.match(/\d+/g).slice(0, 3).reduce((sum, v) => sum * 256 + Number(v), 0);
    const viewer = $3Dmol.createViewer(element, {backgroundColor: background(), antialias: true});
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => viewer.setBackgroundColor(background()));
    const options = {colour: "plddt", side: false, design: false, labels: true};
    let shown = null, turned = false;

    function draw() {
      const all = residues(shown, layouts);
      const view = turned ? viewer.getView() : null;
      viewer.removeAllModels();
      viewer.removeAllLabels();
      viewer.addModel(pdb(all), "pdb");
      const binder = shown.chains.length - 1;
      const byPlddt = options.colour === "plddt" && shown.plddt;
      const binderColour = byPlddt ? {colorfunc: atom => ofPlddt(atom.b)} : {color: COLOURS.binder};
      viewer.setStyle({model: 0}, {cartoon: {color: COLOURS.target}});
      viewer.setStyle({model: 0, hetflag: true}, {stick: {radius: 0.2}, sphere: {scale: 0.25}});
      viewer.setStyle({model: 0, chain: letter(binder)}, {cartoon: {...binderColour, thickness: 0.5}});
      const isHotspot = r => r.chain !== binder && (hotspots[r.id] || []).includes(r.number);
      if (options.side) {
        for (const r of all.filter(r => r.atoms.length > 4 && r.atoms.some(a => a.name === "CA") && !isHotspot(r))) {
          const own = r.chain === binder ? (byPlddt ? ofPlddt(r.plddt) : COLOURS.binder) : COLOURS.target;
          const colour = {N: "#3050f8", O: "#e0301e", S: "#c8a415"};
          viewer.addStyle({model: 0, chain: letter(r.chain), resi: r.number},
            {stick: {radius: 0.14, colorfunc: atom => colour[atom.elem] || own}});
        }
      }
      for (const r of all.filter(isHotspot)) {
        const selected = {model: 0, chain: letter(r.chain), resi: r.number};
        viewer.addStyle(selected, {cartoon: {color: COLOURS.hotspot}, stick: {color: COLOURS.hotspot, radius: 0.25}});
        if (options.labels) {
          const [x, y, z] = r.atoms[r.atoms.length - 1].x; // the tip of the side chain: beside each other less often than CA atoms
          viewer.addLabel((ONE[r.code] || r.code + " ") + r.number, {position: {x, y, z}, font: "sans-serif", fontSize: 11,
            fontColor: "white", backgroundColor: COLOURS.hotspot, backgroundOpacity: 0.9, inFront: true, alignment: "center"});
        }
      }
      if (options.design && shown.design) {
        viewer.addModel(pdb(residues(shown.design, layouts)), "pdb");
        viewer.setStyle({model: 1}, {cartoon: {style: "trace", color: COLOURS.design, thickness: 0.3}});
      }
      let hover = null;
      viewer.setHoverable({model: 0}, true, atom => {
        const r = all.find(r => letter(r.chain) === atom.chain && r.number === atom.resi);
        if (!r || hover) return;
        const text = `${r.id} ${r.code} ${r.number}` + (shown.plddt ? `, pLDDT ${r.plddt}` : "");
        hover = viewer.addLabel(text, {position: atom, font: "sans-serif", fontSize: 12, backgroundColor: "black", inFront: true});
      }, () => {
        if (hover) viewer.removeLabel(hover);
        hover = null;
      });
      if (view) viewer.setView(view);
      else viewer.zoomTo({model: 0});
      turned = true;
      viewer.render();
    }

    return {
      show(structure) { shown = structure; draw(); },
      set(name, value) { options[name] = value; if (shown) draw(); },
      reset() { viewer.zoomTo({model: 0}); viewer.render(); },
      resize() { viewer.resize(); viewer.render(); },
      colours: COLOURS, plddt: PLDDT,
    };
  };
})();
