//! Inserts the switches into one file.

use std::collections::BTreeMap;

use proc_macro2::Span;
use quote::quote;
use syn::punctuated::Pair;
use syn::spanned::Spanned;
use syn::visit_mut::{self, VisitMut};
use syn::{Arm, BinOp, Block, Expr, ReturnType, Signature, Type};

/// A place as cargo-mutants counts: both from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

impl Position {
    fn of(span: Span) -> Self {
        Self { line: span.start().line, column: span.start().column + 1 }
    }
}

/// One mutant of the list.
pub struct Mutant {
    pub number: usize,
    pub genre: String,
    pub replacement: String,
    pub start: Position,
}

/// The file with its switches, and the numbers of those that were inserted.
pub fn rewrite(source: &str, mutants: Vec<Mutant>) -> (String, Vec<usize>) {
    let mut file = syn::parse_file(source).expect("a file that compiles");
    let mut switches = Switches { mutants: BTreeMap::new(), switched: Vec::new() };
    for mutant in mutants {
        switches.mutants.entry(mutant.start).or_default().push(mutant);
    }
    switches.visit_file_mut(&mut file);
    (prettyplease::unparse(&file), switches.switched)
}

struct Switches {
    mutants: BTreeMap<Position, Vec<Mutant>>,
    switched: Vec<usize>,
}

impl Switches {
    /// The mutants of a kind that begin here, each with its number and replacement.
    fn take(&mut self, span: Span, genre: &str) -> Vec<(usize, String)> {
        let here = self.mutants.get(&Position::of(span)).map_or(&[][..], Vec::as_slice);
        let found: Vec<_> =
            here.iter().filter(|m| m.genre == genre).map(|m| (m.number, m.replacement.clone())).collect();
        self.switched.extend(found.iter().map(|(number, _)| number));
        found
    }

    /// A function begins with one early return for each value that replaces its result. Constant functions cannot ask a switch.
    fn function(&mut self, signature: &Signature, block: &mut Block) {
        if signature.constness.is_some() {
            return;
        }
        let is_hidden =
            matches!(&signature.output, ReturnType::Type(_, output) if matches!(**output, Type::ImplTrait(_)));
        let first = block.stmts.first().map_or_else(|| block.span(), |statement| statement.span());
        for (number, value) in self.take(first, "FnValue").into_iter().rev() {
            let Ok(value) = syn::parse_str::<Expr>(&value) else { continue };
            if is_hidden {
                // One type for what it returns in any case: an iterator.
                let body = block.clone();
                let either: Expr = syn::parse_quote!(
                    if crate::mutant::on(#number) {
                        crate::mutant::Either::Left(#value)
                    } else {
                        crate::mutant::Either::Right(#body)
                    }
                );
                *block = syn::parse_quote!({ #either });
            } else {
                block.stmts.insert(0, syn::parse_quote!(if crate::mutant::on(#number) { return #value; }));
            }
        }
    }

    /// A struct may lack a field that its base has, too.
    fn fields(&mut self, expr: &mut Expr) {
        let Expr::Struct(whole) = &*expr else { return };
        let mut result = expr.clone();
        for field in &whole.fields {
            let Some(&(number, _)) = self.take(field.span(), "StructField").first() else { continue };
            let mut lacking = whole.clone();
            let others = whole.fields.iter().filter(|other| other.member != field.member).cloned();
            lacking.fields = others.map(|other| Pair::Punctuated(other, Default::default())).collect();
            result = syn::parse_quote!((if crate::mutant::on(#number) { #lacking } else { #result }));
        }
        *expr = result;
    }

    fn binary(&mut self, expr: &mut Expr) {
        let Expr::Binary(binary) = expr else { return };
        let (left, op, right) = (binary.left.clone(), binary.op, binary.right.clone());
        let others: Vec<(usize, BinOp)> = self
            .take(op.span(), "BinaryOperator")
            .into_iter()
            .filter_map(|(number, text)| Some((number, syn::parse_str(&text).ok()?)))
            .collect();
        if others.is_empty() {
            return;
        }
        let numbers: Vec<usize> = others.iter().map(|(number, _)| *number).collect();
        let ops: Vec<BinOp> = others.iter().map(|(_, op)| *op).collect();
        let lazy = matches!(op, BinOp::And(_) | BinOp::Or(_));
        let compares =
            matches!(op, BinOp::Eq(_) | BinOp::Ne(_) | BinOp::Lt(_) | BinOp::Le(_) | BinOp::Gt(_) | BinOp::Ge(_));
        let assigns = quote!(#op).to_string().ends_with('=') && !compares;
        let tokens = if lazy || assigns {
            quote!((#(if crate::mutant::on(#numbers) { #left #ops #right } else)* { #left #op #right }))
        } else if compares {
            quote!((match (&(#left), &(#right)) {
                (left, right) => #(if crate::mutant::on(#numbers) { left #ops right } else)* { left #op right },
            }))
        } else {
            quote!((match (#left, #right) {
                (left, right) => #(if crate::mutant::on(#numbers) { left #ops right } else)* { left #op right },
            }))
        };
        *expr = syn::parse2(tokens).expect("an expression");
    }
}

impl VisitMut for Switches {
    fn visit_item_fn_mut(&mut self, item: &mut syn::ItemFn) {
        let signature = item.sig.clone();
        self.function(&signature, &mut item.block);
        visit_mut::visit_item_fn_mut(self, item);
    }

    fn visit_impl_item_fn_mut(&mut self, item: &mut syn::ImplItemFn) {
        let signature = item.sig.clone();
        self.function(&signature, &mut item.block);
        visit_mut::visit_impl_item_fn_mut(self, item);
    }

    fn visit_item_const_mut(&mut self, _: &mut syn::ItemConst) {}

    fn visit_item_static_mut(&mut self, _: &mut syn::ItemStatic) {}

    fn visit_impl_item_const_mut(&mut self, _: &mut syn::ImplItemConst) {}

    fn visit_expr_mut(&mut self, expr: &mut Expr) {
        visit_mut::visit_expr_mut(self, expr);
        self.binary(expr);
        self.fields(expr);
        let Expr::Unary(unary) = &*expr else { return };
        let inner = unary.expr.clone();
        if let Some((number, _)) = self.take(unary.op.span(), "UnaryOperator").first() {
            *expr = syn::parse_quote!((if crate::mutant::on(#number) { #inner } else { #expr }));
        }
    }

    fn visit_arm_mut(&mut self, arm: &mut Arm) {
        let deleted = self.take(arm.span(), "MatchArm");
        let replaced = match &arm.guard {
            Some((_, guard)) => self.take(guard.span(), "MatchArmGuard"),
            None => Vec::new(),
        };
        visit_mut::visit_arm_mut(self, arm);
        for (number, value) in replaced {
            let (token, guard) = arm.guard.take().expect("the guard that is replaced");
            let value: Expr = syn::parse_str(&value).expect("true or false");
            let guard = syn::parse_quote!((if crate::mutant::on(#number) { #value } else { #guard }));
            arm.guard = Some((token, Box::new(guard)));
        }
        for (number, _) in deleted {
            let guard: Expr = match arm.guard.take() {
                Some((_, guard)) => syn::parse_quote!(!crate::mutant::on(#number) && #guard),
                None => syn::parse_quote!(!crate::mutant::on(#number)),
            };
            arm.guard = Some((Default::default(), Box::new(guard)));
        }
    }
}
